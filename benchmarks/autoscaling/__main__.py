from benchmarks import suite

suite.main()

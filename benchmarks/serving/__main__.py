from benchmarks import suite

if __name__ == "__main__":
    suite.main()

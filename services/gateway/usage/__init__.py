"""What the answers of each tenant have cost: requests and tokens by day, key and model.

Each gateway counts in memory what it has answered, and writes its own records into the bucket `usage`, one for each
tenant and day. No two processes write one record, so none loses the counts of another. A report sums all records.
"""

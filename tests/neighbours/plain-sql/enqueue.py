"""Enqueues jobs from Python, inside a transaction of its own: enqueue.py FILE JOBS commit|rollback

Python's own sqlite3 and nothing else. Prints the unix time of the commit, in milliseconds.
"""

import json
import sqlite3
import sys
import time

file, jobs, end = sys.argv[1], int(sys.argv[2]), sys.argv[3]
app = sqlite3.connect(file, timeout=5, isolation_level=None)
app.execute("BEGIN IMMEDIATE")
for number in range(jobs):
    order = app.execute("INSERT INTO orders (client) VALUES ('python')").lastrowid
    app.execute(
        "INSERT INTO verger_jobs (worker, args) VALUES (?, ?)",
        ("count", json.dumps({"order": order})),
    )
app.execute(end)
print(time.time_ns() // 1_000_000)

#!/usr/bin/python3
"""report.py - a student's script: reads one committee's contributions into memory and summarises them, again and again"""
import os
import sys

import psycopg2

connection = psycopg2.connect(host=os.environ["PGHOST"], dbname="fec", user=os.environ["PGUSER"])
connection.autocommit = True
while True:
    try:
        committee = input("committee> ")
    except EOFError:
        sys.exit(0)
    if committee in ("", "quit"):
        sys.exit(0)
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, city, state, given, amount FROM contribution WHERE cmte_id = %s LIMIT 50000", (committee,))
        rows = cursor.fetchall()
    by_state = {}
    for _, _, state, _, amount in rows:
        by_state[state] = by_state.get(state, 0) + amount
    for state, total in sorted(by_state.items(), key=lambda item: -item[1])[:10]:
        print("%s %10d" % (state, total))

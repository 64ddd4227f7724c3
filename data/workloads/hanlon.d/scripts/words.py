"""words.py - counts the words of the files named, and shows the most frequent"""
import collections
import re
import sys

counts = collections.Counter()
for name in sys.argv[1:]:
    with open(name, errors="replace") as file:
        counts.update(re.findall(r"[A-Za-z_]+", file.read()))
for word, count in counts.most_common(10):
    print(count, word)
input("enter to end> ")

"""life.py - Conway's game on a set of cells; keeps every generation, to find a period"""
import random

random.seed(3)
alive = {(random.randrange(64), random.randrange(64)) for _ in range(900)}
history = []
for generation in range(60):
    counts = {}
    for x, y in alive:
        for dx in (-1, 0, 1):
            for dy in (-1, 0, 1):
                if dx or dy:
                    cell = ((x + dx) % 64, (y + dy) % 64)
                    counts[cell] = counts.get(cell, 0) + 1
    alive = {c for c, n in counts.items() if n == 3 or (n == 2 and c in alive)}
    history.append(frozenset(alive))
print(len(alive), len(set(history)))
input("enter to end> ")

"""sieve.py - primes below a bound, kept in a list until enter is pressed"""
import sys

bound = int(sys.argv[1]) if len(sys.argv) > 1 else 400000
sieve = bytearray([1]) * bound
for i in range(2, int(bound ** 0.5) + 1):
    if sieve[i]:
        sieve[i * i::i] = bytes(len(range(i * i, bound, i)))
primes = [i for i in range(2, bound) if sieve[i]]
print(len(primes))
input("enter to end> ")

#!/usr/bin/python3
"""fec.py - generated data with the shape of the Federal Election Commission's bulk files

usage: fec.py TABLE SCALE SEED     prints TABLE as PostgreSQL COPY text

Tables and the FEC files whose columns they carry: committee (cm), candidate (cn), contribution (itcont, individual
contributions).  Scale 1 is ROWS contributions.  What analysis queries feel is kept: a few committees get most of the
contributions, and a few donors, cities, employers and occupations occur very often while most are rare (Zipf);
dates bunch before an election; amounts bunch at round sums and at the legal limit, some are refunds (negative).
No name is a real person's: surnames are put together from syllables.

The same TABLE, SCALE and SEED give the same bytes: each block of rows has a generator of its own seeded by
(seed, table, block), donors and committees by theirs.
"""
import datetime
import itertools
import random
import sys

ROWS = 6_000_000
BLOCK = 20_000
STATES = ("CA NY TX FL IL PA OH MI GA NC NJ VA WA MA AZ IN TN MO MD WI MN CO AL SC LA KY OR OK CT UT IA NV AR MS KS NM "
          "NE WV ID HI NH ME RI MT DE SD ND AK DC VT WY").split()
PARTIES = ("DEM", "REP", "IND", "LIB", "GRE")
FIRST = ("JAMES MARY ROBERT PATRICIA JOHN JENNIFER MICHAEL LINDA DAVID ELIZABETH WILLIAM BARBARA RICHARD SUSAN JOSEPH "
         "JESSICA THOMAS SARAH CHARLES KAREN CHRISTOPHER LISA DANIEL NANCY MATTHEW BETTY ANTHONY MARGARET MARK SANDRA "
         "DONALD ASHLEY STEVEN KIMBERLY PAUL EMILY ANDREW DONNA JOSHUA MICHELLE KENNETH CAROL KEVIN AMANDA BRIAN "
         "DOROTHY GEORGE MELISSA EDWARD DEBORAH").split()
SYLLABLES = "AL BER CAR DEN ER FAL GAR HOL IN JEN KEL LOW MAR NOR OS PEN QUIN RAM STEN TOR UL VAN WES YAR ZIM".split()
ENDINGS = "SON LEY TON MAN ER FIELD STEIN SKY EZ INI WOOD BERG FORD WELL".split()
PLACES = "SPRING RIVER OAK LAKE GREEN FAIR CLINTON FRANKLIN MADISON ARLING GEORGE SALEM MIL NEW WIN ASH DOVER".split()
PLACE_ENDINGS = "FIELD TON VILLE  PARK WOOD BURG PORT DALE".split(" ")
TRADES = ("SYSTEMS PARTNERS HOLDINGS UNIVERSITY HOSPITAL SCHOOLS LLP CAPITAL MEDIA ENERGY FOODS MOTORS INSURANCE "
          "REALTY CONSULTING LOGISTICS").split()
OCCUPATIONS = ("RETIRED,NOT EMPLOYED,ATTORNEY,PHYSICIAN,TEACHER,ENGINEER,CONSULTANT,PROFESSOR,SALES,OWNER,CEO,MANAGER,"
               "HOMEMAKER,REAL ESTATE,PRESIDENT,SOFTWARE ENGINEER,NURSE,WRITER,ARTIST,ACCOUNTANT,FARMER,PSYCHOLOGIST,"
               "INVESTOR,SCIENTIST,EXECUTIVE,ADMINISTRATOR,SOCIAL WORKER,ARCHITECT,BANKER,STUDENT").split(",")
AMOUNTS = (25, 50, 100, 10, 250, 500, 5, 1000, 15, 35, 20, 2700, 75, 200, 2500, 3, 300, 1500, 5000, 150)
FIRST_DAY = datetime.date(2015, 1, 1)
DAYS = 730
PURPOSES = ("", "", "", "", "", "", "EARMARKED THROUGH CONDUIT", "MONTHLY PLEDGE", "REFUND OF EXCESS CONTRIBUTION",
            "PAYROLL DEDUCTION", "DINNER TICKETS", "REATTRIBUTED TO SPOUSE")


def zipf(count, exponent=1.0):
    """Cumulative weights of ranks 1 to @count, as random.choices() takes them."""
    return list(itertools.accumulate(1 / rank ** exponent for rank in range(1, count + 1)))


def committee_ids(scale):
    return ["C%08d" % (100000 + 7 * i) for i in range(max(20, int(4000 * min(1, scale ** 0.5))))]


def candidate_ids(scale):
    return ["P%08d" % (60000 + 3 * i) for i in range(max(10, int(1500 * min(1, scale ** 0.5))))]


def surname(dice):
    return dice.choice(SYLLABLES) + dice.choice(SYLLABLES + [""] * 15) + dice.choice(ENDINGS)


def committees(scale, seed):
    dice, candidates = random.Random("%d committee" % seed), candidate_ids(scale)
    for number, key in enumerate(committee_ids(scale)):
        candidate = candidates[number] if number < len(candidates) else "\\N"
        name = ("%s FOR %s" % (surname(dice), dice.choice(("AMERICA", "CONGRESS", "SENATE", "PRESIDENT")))
                if candidate != "\\N" else "%s %s PAC" % (surname(dice), dice.choice(TRADES)))
        yield "\t".join((key, name, dice.choice(STATES), dice.choice("HSPNQ"), dice.choice(PARTIES), candidate))


def candidates(scale, seed):
    dice = random.Random("%d candidate" % seed)
    for key in candidate_ids(scale):
        yield "\t".join((key, "%s, %s" % (surname(dice), dice.choice(FIRST)), dice.choice(PARTIES), "2016",
                         dice.choice(STATES), dice.choice("HSP"), "%02d" % dice.randint(0, 30), dice.choice("ICO")))


def donors(scale, seed):
    """Donors as ready-made COPY fields: name, city, state, zip, employer, occupation."""
    dice = random.Random("%d donor" % seed)
    count = max(200, int(250_000 * scale))
    cities = [(dice.choice(PLACES) + dice.choice(PLACE_ENDINGS), dice.choice(STATES), "%05d" % dice.randint(501, 99950))
              for _ in range(max(100, int(8000 * min(1, scale))))]
    employers = (["SELF-EMPLOYED", "NONE", "RETIRED", "INFORMATION REQUESTED"]
                 + ["%s %s" % (surname(dice), dice.choice(TRADES)) for _ in range(max(100, int(30_000 * scale)))])
    surnames = [surname(dice) for _ in range(20_000)]
    picks = zip(dice.choices(surnames, cum_weights=zipf(len(surnames), 0.8), k=count),
                dice.choices(FIRST, cum_weights=zipf(len(FIRST), 0.6), k=count),
                dice.choices(cities, cum_weights=zipf(len(cities)), k=count),
                dice.choices(employers, cum_weights=zipf(len(employers)), k=count),
                dice.choices(OCCUPATIONS, cum_weights=zipf(len(OCCUPATIONS)), k=count))
    return ["%s, %s\t%s\t%s\t%s%04d\t%s\t%s" % (last, first, city, state, code, dice.randint(0, 9999), employer, work)
            for last, first, (city, state, code), employer, work in picks]


def contributions(scale, seed):
    """Rows in order of filing: the amendment, report and image number follow the date as they do at the FEC."""
    givers, takers = donors(scale, seed), committee_ids(scale)
    giver_weights, taker_weights, amount_weights = zipf(len(givers), 0.6), zipf(len(takers), 1.1), zipf(len(AMOUNTS))
    days = [(FIRST_DAY + datetime.timedelta(day)).isoformat() for day in range(DAYS)]
    day_weights = list(itertools.accumulate(1 + 8 * (day / 675) ** 3 if day < 675 else 1 for day in range(DAYS)))
    rows = max(1000, int(ROWS * scale))
    for first in range(0, rows, BLOCK):
        count = min(BLOCK, rows - first)
        dice = random.Random("%d contribution %d" % (seed, first // BLOCK))
        columns = zip(range(first, first + count),
                      dice.choices(takers, cum_weights=taker_weights, k=count),
                      dice.choices(givers, cum_weights=giver_weights, k=count),
                      dice.choices(days, cum_weights=day_weights, k=count),
                      dice.choices(AMOUNTS, cum_weights=amount_weights, k=count),
                      dice.choices(PURPOSES, k=count), dice.choices("NNNNNNNNAT", k=count))
        for number, taker, giver, day, amount, purpose, amended in columns:
            if purpose.startswith("REFUND"):
                amount = -amount
            yield "%s\t%s\tIND\t%s\t%s\t%d\tSA11AI.%d\t%s\t%d" % (
                taker, amended, giver, day, amount, number % 99991, purpose, 4_010_120_150_000_000_000 + number)


TABLES = {"committee": committees, "candidate": candidates, "contribution": contributions}

SCHEMA = """
CREATE TABLE candidate (cand_id text PRIMARY KEY, name text, party text, election_year int, office_state text,
  office text, district text, ici text);
CREATE TABLE committee (cmte_id text PRIMARY KEY, name text, state text, type text, party text,
  cand_id text REFERENCES candidate);
CREATE TABLE contribution (cmte_id text NOT NULL, amended text, entity text, name text, city text, state text,
  zip text, employer text, occupation text, given date, amount int, tran_id text, memo text, sub_id bigint);
"""
# After the load.  `employer` and `memo` stay without an index: somebody has to find out.
INDEXES = """
SET statement_timeout = 0;
ALTER TABLE contribution ADD PRIMARY KEY (sub_id);
CREATE INDEX contribution_cmte ON contribution (cmte_id);
CREATE INDEX contribution_given ON contribution (given);
CREATE INDEX contribution_zip ON contribution (zip text_pattern_ops);
CREATE INDEX contribution_name ON contribution (name text_pattern_ops);
CREATE INDEX committee_text ON committee USING gin (to_tsvector('simple', name));
CREATE EXTENSION pg_prewarm;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC;
GRANT CREATE ON SCHEMA public TO PUBLIC;
VACUUM ANALYZE;
SELECT sum(pg_prewarm(oid::regclass)) FROM pg_class
  WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i');
"""


def main():
    if len(sys.argv) != 4 or sys.argv[1] not in TABLES:
        print(__doc__.split("\n\n")[1], file=sys.stderr)
        return 1
    rows = TABLES[sys.argv[1]](float(sys.argv[2]), int(sys.argv[3]))
    while True:
        block = list(itertools.islice(rows, 5000))
        if not block:
            return 0
        sys.stdout.write("\n".join(block) + "\n")


if __name__ == "__main__":
    sys.exit(main())

-- queries.sql - what the students of the databases course ask, by assignment
--
-- Each query is headed by `--- name weight`; weight is how often it is asked relative to the others.  {words} are
-- filled in from the generated data by the driver: {cmte} {zip3} {surname} {state} {day} {employer} {amount} {n}.
-- The last part is what students write before they have learned about indexes; the server's statement_timeout ends
-- what would take longer than 20 s, as they come to know.

--- columns 6
SELECT * FROM contribution WHERE cmte_id = '{cmte}' LIMIT {n};
--- one-committee 8
SELECT count(*), sum(amount), avg(amount)::numeric(10,2) FROM contribution WHERE cmte_id = '{cmte}' AND amount > {amount};
--- one-day 8
SELECT state, count(*), sum(amount) FROM contribution WHERE given = '{day}' GROUP BY state ORDER BY 3 DESC;
--- zip-prefix 8
SELECT city, count(*) AS gifts, sum(amount) AS total FROM contribution WHERE zip LIKE '{zip3}%' GROUP BY city ORDER BY total DESC LIMIT 15;
--- surname 8
SELECT name, city, state, sum(amount) FROM contribution WHERE name LIKE '{surname}, %' GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT 25;
--- full-text 5
SELECT cmte_id, name FROM committee WHERE to_tsvector('simple', name) @@ to_tsquery('simple', 'president | {surname}');
--- join-committee 6
SELECT m.name, count(*), sum(c.amount) FROM contribution c JOIN committee m USING (cmte_id) WHERE c.given BETWEEN '{day}' AND date '{day}' + 2 GROUP BY m.name ORDER BY 3 DESC LIMIT 20;
--- join-candidate 5
SELECT d.name, d.party, sum(c.amount) FROM contribution c JOIN committee m USING (cmte_id) JOIN candidate d USING (cand_id) WHERE c.zip LIKE '{zip3}%' GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 10;
--- outer-join 4
SELECT d.party, count(*) FROM candidate d LEFT JOIN committee m USING (cand_id) WHERE m.cmte_id IS NULL GROUP BY d.party;
--- running-total 4
SELECT given, sum(amount) AS day, sum(sum(amount)) OVER (ORDER BY given) AS so_far FROM contribution WHERE cmte_id = '{cmte}' GROUP BY given ORDER BY given LIMIT {n};
--- rank 4
SELECT * FROM (SELECT state, name, sum(amount) AS total, rank() OVER (PARTITION BY state ORDER BY sum(amount) DESC) AS place FROM contribution WHERE given = '{day}' GROUP BY state, name) t WHERE place <= 3 ORDER BY state, place;
--- moving-average 3
SELECT given, avg(sum(amount)) OVER (ORDER BY given ROWS BETWEEN 6 PRECEDING AND CURRENT ROW)::int FROM contribution WHERE cmte_id = '{cmte}' AND given >= '{day}' GROUP BY given;
--- cte 3
WITH big AS (SELECT cmte_id, sum(amount) AS total FROM contribution WHERE given BETWEEN '{day}' AND date '{day}' + 6 GROUP BY 1 HAVING sum(amount) > 1000) SELECT m.state, count(*), sum(total) FROM big JOIN committee m USING (cmte_id) GROUP BY 1 ORDER BY 3 DESC;
--- recursive 2
WITH RECURSIVE week(day) AS (SELECT date '{day}' UNION ALL SELECT day + 1 FROM week WHERE day < date '{day}' + 13) SELECT day, (SELECT count(*) FROM contribution WHERE given = day) FROM week;
--- percentile 2
SELECT state, percentile_cont(0.5) WITHIN GROUP (ORDER BY amount), percentile_cont(0.99) WITHIN GROUP (ORDER BY amount) FROM contribution WHERE given BETWEEN '{day}' AND date '{day}' + 3 GROUP BY state;
--- explain 3
EXPLAIN ANALYZE SELECT count(*) FROM contribution WHERE zip LIKE '{zip3}%' AND amount > {amount};
--- top-100-own-table 1
CREATE TEMP TABLE IF NOT EXISTS top AS SELECT name, sum(amount) AS total FROM contribution WHERE given BETWEEN '{day}' AND date '{day}' + 10 GROUP BY name ORDER BY 2 DESC LIMIT 1000;
--- describe 5
\d contribution
--- tables 3
\dt+

--- bad-employer 2
SELECT employer, count(*) FROM contribution WHERE employer = '{employer}' GROUP BY employer;
--- bad-leading-wildcard 1
SELECT count(*) FROM contribution WHERE name LIKE '%{surname}%';
--- bad-all-occupations 1
SELECT occupation, count(*), sum(amount) FROM contribution GROUP BY occupation ORDER BY 3 DESC;
--- bad-function-on-column 1
SELECT count(*) FROM contribution WHERE extract(month FROM given) = 11 AND upper(state) = '{state}';
--- bad-sort-everything 1
SELECT name, amount FROM contribution WHERE state = '{state}' ORDER BY amount DESC, name LIMIT {n};
--- bad-cross-join 1
SELECT count(*) FROM committee a, committee b WHERE a.state = b.state AND a.name < b.name;

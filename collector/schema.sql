-- schema.sql - the database of dscollect, version 1
--
-- Writers: dscollect alone.  Readers: dsreport and anybody's own SQL, through the views `snapshot_info` and
-- `process_sample`, which are the stable interface (dscollect(5)); the tables may change with the version.
-- PRAGMA user_version holds the version, PRAGMA application_id says whose file this is.
-- All counts are pages of 4 KiB; times are Unix seconds (UTC, fraction allowed) unless the name says otherwise.

PRAGMA application_id = 0x44534850; -- "DSHP"
PRAGMA user_version = 1;

-- A name used many times, stored once: comm, cgroup path, status text.
CREATE TABLE name (
  id INTEGER PRIMARY KEY,
  text TEXT NOT NULL UNIQUE
);

-- One boot of one machine.  Merging databases: (host, boot_id) says which rows are the same boot.
CREATE TABLE boot (
  id INTEGER PRIMARY KEY,
  host TEXT NOT NULL,
  boot_id TEXT NOT NULL,             -- /proc/sys/kernel/random/boot_id
  kernel TEXT NOT NULL,              -- uname release and version
  UNIQUE (host, boot_id, kernel)
);

CREATE TABLE snapshot (
  id INTEGER PRIMARY KEY,
  boot INTEGER NOT NULL REFERENCES boot,
  time REAL NOT NULL,                -- start of the scan
  uptime_s REAL,
  duration_ns INTEGER NOT NULL,
  tool TEXT NOT NULL,                -- dscollect version
  join_mode TEXT NOT NULL,           -- none, head, full
  page_size INTEGER NOT NULL,
  mem_total_bytes INTEGER,
  mem_free_bytes INTEGER,
  thp_enabled TEXT, thp_defrag TEXT, thp_shmem TEXT,  -- the word in [brackets]
  mthp TEXT,                         -- JSON object: {"64kB":"never",...}; NULL where the kernel has none
  buddyinfo TEXT,                    -- JSON array of {"node":0,"zone":"Normal","free":[blocks of order 0,1,...]}
  ksm_run INTEGER,
  hugetlb_total INTEGER,             -- pages of 4 KiB in all hugetlb pools
  max_map_count INTEGER,
  distinct_pages INTEGER,            -- different frames seen over all processes; NULL where not counted
  n_seen INTEGER NOT NULL,           -- numeric entries of /proc
  n_sampled INTEGER NOT NULL,        -- rows of sample with status ok
  n_kernel INTEGER NOT NULL,         -- kernel threads: no address space, no row
  n_zombie INTEGER NOT NULL,         -- likewise
  n_vanished INTEGER NOT NULL,       -- ended or exec'd in mid-scan
  n_denied INTEGER NOT NULL,
  n_timeout INTEGER NOT NULL,        -- hung its reader, which was killed
  n_error INTEGER NOT NULL
);
CREATE INDEX snapshot_time ON snapshot (time);

-- A process over its life: a PID may come back, (boot, pid, start) does not.
CREATE TABLE process (
  id INTEGER PRIMARY KEY,
  boot INTEGER NOT NULL REFERENCES boot,
  pid INTEGER NOT NULL,
  start_ticks INTEGER NOT NULL,      -- field 22 of /proc/PID/stat
  UNIQUE (boot, pid, start_ticks)
);

-- One process in one snapshot.  Counts are NULL unless status is ok, and where the join does not tell.
CREATE TABLE sample (
  id INTEGER PRIMARY KEY,
  snapshot INTEGER NOT NULL REFERENCES snapshot ON DELETE CASCADE,
  process INTEGER NOT NULL REFERENCES process,
  comm INTEGER NOT NULL REFERENCES name,
  cgroup INTEGER REFERENCES name,
  uid INTEGER,
  status INTEGER NOT NULL REFERENCES name,   -- ok, vanished, denied, timeout, hidden, error: TEXT
  scan_ns INTEGER,
  vsz_bytes INTEGER,
  vmas INTEGER,
  pages_mapped INTEGER,              -- pages in VMAs, [vdso] and [vvar] left out
  pte_present INTEGER,               -- the paper's "raw page table entries"
  runs INTEGER,                      -- split by VPN/PFN only: the paper's "mmap entries"
  runs_prot INTEGER,                 -- split by protection too
  runs_attr INTEGER,                 -- split by every attribute
  swapped INTEGER, migrating INTEGER, guard INTEGER, marker INTEGER,   -- not present, each apart
  zero INTEGER, ksm INTEGER, thp INTEGER, hugetlb INTEGER, device INTEGER, file INTEGER, exclusive INTEGER, -- of pte_present
  cover50 INTEGER, cover90 INTEGER, cover95 INTEGER, cover99 INTEGER, cover100 INTEGER, -- runs to cover that % of pages
  pages_64k INTEGER, pages_2m INTEGER, pages_1g INTEGER,               -- pages in runs at least that long
  aligned_64k INTEGER, aligned_2m INTEGER, aligned_1g INTEGER,         -- pages in whole blocks aligned in VPN and PFN
  end_vma INTEGER, end_hole INTEGER, end_phys INTEGER,                 -- why runs ended
  hist_runs TEXT,                    -- JSON array: [i] = runs of 2^i to 2^(i+1)-1 pages
  hist_pages TEXT                    -- JSON array: [i] = pages in those
);
CREATE INDEX sample_snapshot ON sample (snapshot);
CREATE INDEX sample_process ON sample (process);

-- --keep-runs: the map blob (rle/map.h) of a sample.
CREATE TABLE run_map (
  sample INTEGER PRIMARY KEY REFERENCES sample ON DELETE CASCADE,
  map BLOB NOT NULL
);

CREATE VIEW snapshot_info AS
SELECT s.id AS snapshot_id, b.host, b.boot_id, b.kernel,
       s.time, strftime('%Y-%m-%dT%H:%M:%SZ', s.time, 'unixepoch') AS time_iso,
       s.uptime_s, s.duration_ns, s.tool, s.join_mode, s.page_size, s.mem_total_bytes, s.mem_free_bytes,
       s.thp_enabled, s.thp_defrag, s.thp_shmem, s.mthp, s.buddyinfo, s.ksm_run, s.hugetlb_total, s.max_map_count,
       s.distinct_pages, s.n_seen, s.n_sampled, s.n_kernel, s.n_zombie, s.n_vanished, s.n_denied, s.n_timeout, s.n_error
FROM snapshot s JOIN boot b ON b.id = s.boot;

CREATE VIEW process_sample AS
SELECT x.id AS sample_id, x.snapshot AS snapshot_id, x.process AS process_id, b.host, b.boot_id, s.time,
       strftime('%Y-%m-%dT%H:%M:%SZ', s.time, 'unixepoch') AS time_iso,
       p.pid, p.start_ticks, c.text AS comm, x.uid, g.text AS cgroup, t.text AS status, x.scan_ns,
       x.vsz_bytes, x.vmas, x.pages_mapped, x.pte_present, x.runs, x.runs_prot, x.runs_attr,
       CASE WHEN x.pte_present > 0 THEN 1.0 * x.runs / x.pte_present END AS ratio,
       CASE WHEN x.pages_mapped > 0 THEN 1.0 * x.runs / x.pages_mapped END AS ratio_mapped,
       x.swapped, x.migrating, x.guard, x.marker, x.zero, x.ksm, x.thp, x.hugetlb, x.device, x.file, x.exclusive,
       x.cover50, x.cover90, x.cover95, x.cover99, x.cover100,
       x.pages_64k, x.pages_2m, x.pages_1g, x.aligned_64k, x.aligned_2m, x.aligned_1g,
       x.end_vma, x.end_hole, x.end_phys, x.hist_runs, x.hist_pages
FROM sample x
JOIN snapshot s ON s.id = x.snapshot
JOIN boot b ON b.id = s.boot
JOIN process p ON p.id = x.process
JOIN name c ON c.id = x.comm
LEFT JOIN name g ON g.id = x.cgroup
JOIN name t ON t.id = x.status;

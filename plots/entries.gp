# entries.gp - Figure 2 of the paper: distribution of raw page table entries and of runs, on one logarithmic axis
#
# $raw, $runs: (count, percent of samples), a curve a block, blocks in order of group; $paper: percentiles of runs
# that the paper gives, a machine a block.  ngroups, xmax; NAME[]: of the groups where there are several.
set logscale x
set xrange [1:xmax]
set yrange [0:100]
set format x "10^{%T}"
set format y PERCENT
set ytics 0,20,100
set xlabel "entries of a process: present 4 KiB pages, or runs of them"
set ylabel "samples with at most so many"
RUNS(i) = ngroups == 1 ? "runs (mmap entries)" : NAME[i].", runs"
RAW(i) = ngroups == 1 ? "raw page table entries" : NAME[i].", raw entries"
set key maxcols 2
set bmargin BELOW(ngroups + 1)
plot for [i=1:ngroups] $runs index i-1 using 1:2 with steps linewidth 2.5 linecolor rgb C1(i) title RUNS(i), \
     for [i=1:ngroups] $raw index i-1 using 1:2 with steps linetype SECOND linewidth 2.5 linecolor rgb C2(i) title RAW(i), \
     $paper index 0 using 1:2 with points pointtype 8 pointsize 0.9 linewidth 1.5 linecolor rgb QUIET title "paper: runs on Murphy", \
     $paper index 1 using 1:2 with points pointtype 12 pointsize 0.9 linewidth 1.5 linecolor rgb QUIET title "paper: runs on Hanlon"

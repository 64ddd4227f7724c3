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
set xlabel "entries of a process (each a 4 KiB page, or a run of them)"
set ylabel "samples with at most so many"
set key bottom right
set arrow from 1,95 to xmax,95 nohead linecolor rgb QUIET linewidth 1 dashtype 3 back
set arrow from 1,99 to xmax,99 nohead linecolor rgb QUIET linewidth 1 dashtype 3 back
set label "95 %" at 1,95 offset 0.4,-0.65 textcolor rgb QUIET font ",11"
set label "99 %" at 1,99 offset 5.2,-0.45 textcolor rgb QUIET font ",11"
RUNS(i) = ngroups == 1 ? "runs (mmap entries)" : NAME[i].", runs"
RAW(i) = ngroups == 1 ? "raw page table entries" : NAME[i].", raw entries"
plot for [i=1:ngroups] $runs index i-1 using 1:2 with steps linewidth 2.5 linecolor rgb COLOUR[i] title RUNS(i), \
     for [i=1:ngroups] $raw index i-1 using 1:2 with steps linewidth 2.5 linecolor rgb (ngroups == 1 ? COLOUR[2] : COLOUR[i]) dashtype SECOND title RAW(i), \
     $paper index 0 using 1:2 with points pointtype 8 pointsize 1.1 linewidth 1.3 linecolor rgb QUIET title "paper: Murphy, runs at 95 and 99 %", \
     $paper index 1 using 1:2 with points pointtype 12 pointsize 1.2 linewidth 1.3 linecolor rgb QUIET title "paper: Hanlon"

# entries.gp - Figure 2 of the paper, one server: distribution of raw page table entries and of runs
#
# $raw, $runs: (count, percent of samples); $paper: percentiles of runs that the paper gives; xmax.
set logscale x
set xrange [1:xmax]
set yrange [0:100]
set format x "10^{%T}"
set format y PERCENT
set ytics 0,20,100
set xlabel "entries of a process: present 4 KiB pages, or runs of them"
set ylabel "samples with at most so many"
set key maxcols 3
set bmargin BELOW(2)
plot $runs using 1:2 with steps linewidth 2.5 linecolor rgb COLOUR[1] title "runs (mmap entries)", \
     $raw using 1:2 with steps linewidth 2.5 linecolor rgb COLOUR[2] title "raw page table entries", \
     $paper using 1:2 with points pointtype 8 pointsize 0.9 linewidth 1.5 linecolor rgb QUIET title PAPER

# cover.gp - how many runs hold all of a process's memory, and how many 99 % of it
#
# $runs, $cover: (runs, percent of samples), a server a block; NAME[]; xmax.
set logscale x
set xrange [1:xmax]
set yrange [0:100]
set format x "10^{%T}"
set format y PERCENT
set ytics 0,20,100
set xlabel "runs of a process"
set ylabel "samples with at most so many"
set key maxcols 2
set bmargin BELOW(ngroups)
plot for [i=1:ngroups] $runs index i-1 using 1:2 with steps linewidth 2.5 linecolor rgb COLOUR[i] title NAME[i].", all pages", \
     for [i=1:ngroups] $cover index i-1 using 1:2 with steps linetype 12 linewidth 2.5 linecolor rgb COLOUR[i] title NAME[i].", 99 % of them"

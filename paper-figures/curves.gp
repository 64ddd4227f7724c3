# curves.gp - distribution of the ratio under several settings
#
# $ratio: (ratio, percent of samples), a setting a block; NAME[], HUE[] (colour), DASH[] (2: dashed); keyrows;
# $paper.
set xrange [0:1]
set yrange [0:100]
set xtics 0,0.1,1
set format x "%.1f"
set format y PERCENT
set ytics 0,20,100
set xlabel "ratio: runs / raw page table entries"
set ylabel "samples with at most this ratio"
set key maxcols 3
set bmargin BELOW(keyrows)
plot for [i=1:ngroups] $ratio index i-1 using 1:2 with steps linetype 10+DASH[i] linewidth 2.2 linecolor rgb COLOUR[HUE[i]] title NAME[i], \
     $paper using 1:2 with points pointtype 8 pointsize 0.9 linewidth 1.5 linecolor rgb QUIET title PAPER

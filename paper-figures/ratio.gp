# ratio.gp - Figure 3 of the paper, one server: distribution of the ratio of runs to raw page table entries
#
# $ratio, $mapped: (ratio, percent of samples), by present and by mapped pages; $paper: percentiles that the paper gives.
set xrange [0:1]
set yrange [0:100]
set xtics 0,0.1,1
set format x "%.1f"
set format y PERCENT
set ytics 0,20,100
set xlabel "ratio: runs / raw page table entries"
set ylabel "samples with at most this ratio"
set key maxcols 3
set bmargin BELOW(2)
plot $ratio using 1:2 with steps linewidth 2.5 linecolor rgb COLOUR[1] title "runs / raw entries", \
     $mapped using 1:2 with steps linewidth 1.5 dashtype (5,4) linecolor rgb COLOUR[3] title "runs / mapped pages", \
     $paper using 1:2 with points pointtype 8 pointsize 0.9 linewidth 1.5 linecolor rgb QUIET title PAPER

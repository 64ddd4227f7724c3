# ratio.gp - Figure 3 of the paper: distribution of the ratio of runs to raw page table entries
#
# $ratio: (ratio, percent of samples), a curve a block; $paper: percentiles that the paper gives, a machine a block.
set xrange [0:1]
set yrange [0:100]
set xtics 0,0.1,1
set format x "%.1f"
set format y PERCENT
set ytics 0,20,100
set xlabel "ratio: runs / raw page table entries"
set ylabel "samples with at most this ratio"
set key maxcols 3
set bmargin BELOW(ceil((ngroups + 2) / 3.0))
plot for [i=1:ngroups] $ratio index i-1 using 1:2 with steps linewidth 2.5 linecolor rgb C1(i) title (ngroups == 1 ? "this report" : NAME[i]), \
     $paper index 0 using 1:2 with points pointtype 8 pointsize 0.9 linewidth 1.5 linecolor rgb QUIET title "paper: Murphy", \
     $paper index 1 using 1:2 with points pointtype 12 pointsize 0.9 linewidth 1.5 linecolor rgb QUIET title "paper: Hanlon"

# feasibility.gp - how many processes a limit on the number of maps would shut out
#
# $tail: (runs, percent of samples with more), a server a block; $paper: likewise, from the paper's percentiles.
unset arrow
unset label
set logscale xy
set xrange [1:xmax]
set yrange [0.0001:100]
set format x "10^{%T}"
set ytics ("100 %%" 100, "10 %%" 10, "1 %%" 1, "0.1 %%" 0.1, "0.01 %%" 0.01, "0.001 %%" 0.001, "0.0001 %%" 0.0001)
set xlabel "limit on runs (maps) of a process"
set ylabel "samples beyond the limit"
set arrow from 65530,0.0001 to 65530,100 nohead linecolor rgb INK linewidth 1 dashtype 3 back
set label "vm.max\\_map\\_count: 65,530" at 65530,40 right offset -0.6,0 textcolor rgb INK font SMALL
set arrow from 6000,0.0001 to 6000,100 nohead linecolor rgb QUIET linewidth 0.8 dashtype 3 back
set label "6,000" at 6000,0.0002 right offset -0.6,0 textcolor rgb QUIET font SMALL
SHAPE(i) = i == 1 ? 8 : 12
set key maxcols 2
set bmargin BELOW(ngroups)
plot for [i=1:ngroups] $tail index i-1 using 1:2 with steps linewidth 2.5 linecolor rgb COLOUR[i] title NAME[i].", here", \
     for [i=1:ngroups] $paper index i-1 using 1:2 with points pointtype SHAPE(i) pointsize 0.9 linewidth 1.5 linecolor rgb COLOUR[i] title NAME[i].", paper"

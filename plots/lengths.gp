# lengths.gp - distribution of run lengths, by runs and by pages
#
# $byruns, $bypages: (length in KiB, percent in shorter runs), known at powers of two; a curve a block.
unset arrow
unset label
set logscale x 2
set xrange [4:xmax]
set yrange [0:100]
set xtics ("4 KiB" 4, "64 KiB" 64, "2 MiB" 2048, "32 MiB" 32768, "1 GiB" 1048576, "16 GiB" 16777216, "256 GiB" 268435456)
do for [b=0:30] { set xtics add ("" 4*2**b 1) }
set format y PERCENT
set ytics 0,20,100
set xlabel "length of a run"
set ylabel "in shorter runs"
set grid noxtics
do for [x in "64 2048 1048576"] {
    if (x+0 < xmax) { set arrow from x+0,0 to x+0,100 nohead linecolor rgb QUIET linewidth 0.8 dashtype 3 back }
}
RUNS(i) = ngroups == 1 ? "of all runs" : NAME[i].", runs"
PAGES(i) = ngroups == 1 ? "of all pages" : NAME[i].", pages"
set key maxcols 2
set bmargin BELOW(ngroups)
plot for [i=1:ngroups] $byruns index i-1 using 1:2 with linespoints pointtype 7 pointsize 0.4 linewidth 2 linecolor rgb C1(i) title RUNS(i), \
     for [i=1:ngroups] $bypages index i-1 using 1:2 with linespoints linetype SECOND pointtype 7 pointsize 0.4 linewidth 2 linecolor rgb C2(i) title PAGES(i)

# lengths.gp - distribution of run lengths, by runs and by pages
#
# $byruns, $bypages: (length in KiB, percent in shorter runs), known at powers of two; a curve a block.
set logscale x 2
set xrange [4:xmax]
set yrange [0:100]
set xtics ("4 KiB" 4, "16 KiB" 16, "64 KiB" 64, "256 KiB" 256, "2 MiB" 2048, "16 MiB" 16384, "128 MiB" 131072, "1 GiB" 1048576, "16 GiB" 16777216, "256 GiB" 268435456)
set format y PERCENT
set ytics 0,20,100
set xlabel "length of a run"
set ylabel "in shorter runs"
set key top left
do for [x in "64 2048 1048576"] {
    if (x+0 < xmax) { set arrow from x+0,0 to x+0,100 nohead linecolor rgb QUIET linewidth 1 dashtype 3 back }
}
RUNS(i) = ngroups == 1 ? "of the runs" : NAME[i].", of the runs"
PAGES(i) = ngroups == 1 ? "of the pages" : NAME[i].", of the pages"
plot for [i=1:ngroups] $byruns index i-1 using 1:2 with linespoints pointtype 7 pointsize 0.4 linewidth 2 linecolor rgb COLOUR[i] title RUNS(i), \
     for [i=1:ngroups] $bypages index i-1 using 1:2 with linespoints pointtype 7 pointsize 0.4 linewidth 2 linecolor rgb (ngroups == 1 ? COLOUR[2] : COLOUR[i]) dashtype SECOND title PAGES(i)

# size.gp - Figure 4 of the paper: ratio against size
#
# $cells: (pages, ratio) at the middle of each cell that holds samples.  With one group a block for each class of
# density, of which there are five; else a block a group.
unset arrow
unset label
set logscale x
set xrange [1:xmax]
set yrange [0:1.02]
set format x "10^{%T}"
set ytics 0,0.2,1
set format y "%.1f"
set xlabel "raw page table entries (present 4 KiB pages; above: their size)"
set ylabel "ratio: runs / raw entries"
set logscale x2
set x2range [1:xmax]
set x2tics ("64 KiB" 16, "1 MiB" 256, "16 MiB" 4096, "256 MiB" 65536, "4 GiB" 1048576, "64 GiB" 16777216, "1 TiB" 268435456) textcolor rgb QUIET font SMALL scale 0 offset 0,-0.4
SHAPE(i) = word("5 7 9 13", i) + 0
CLASS(i) = word("1 2–9 10–99 100–999 1000+", i)
set bmargin BELOW(1)
if (ngroups == 1) {
    set key at screen 0.63,0.015 maxcols 5 samplen 0.3 width 0
    set label "samples at a dot:" at screen 0.05,0.042 textcolor rgb INK
    plot for [i=1:5] $cells index i-1 using 1:2 with points pointtype 5 pointsize 0.26 linecolor rgb DENSITY[i] notitle, \
         for [i=1:5] NaN with points pointtype 5 pointsize 0.9 linecolor rgb DENSITY[i] title CLASS(i)
} else {
    plot for [i=1:ngroups] $cells index i-1 using 1:2 with points pointtype SHAPE(i) pointsize 0.3 linecolor rgb COLOUR[i] notitle, \
         for [i=1:ngroups] NaN with points pointtype SHAPE(i) pointsize 0.9 linecolor rgb COLOUR[i] title NAME[i]
}

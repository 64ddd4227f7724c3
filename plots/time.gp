# time.gp - the snapshots over time: present pages, runs, ratio
#
# $moments: (Unix time, present GiB, runs, median ratio, 95th percentile), a host a block.  nlines: hosts;
# ngroups: hosts told apart by colour, 1 when there are too many; tmin, tmax, tformat.
set xdata time
set timefmt "%s"
set xrange [tmin:tmax]
set format x ""
set lmargin 10
set rmargin 3
set key off
C(i) = COLOUR[ngroups == 1 ? 1 : i]
POINTS = points_shown ? 0.35 : 0
set multiplot
set yrange [0:*]
set ytics autofreq
set grid xtics ytics
set origin 0,0.66
set size 1,0.33
set bmargin 0.6
set tmargin 1.8
set title "present memory, summed over processes (GiB)" offset 0,-0.6 textcolor rgb INK
set format y "%.3g"
plot for [i=1:nlines] $moments index i-1 using 1:2 with linespoints pointtype 7 pointsize POINTS linewidth 1.8 linecolor rgb C(i)
set origin 0,0.355
set size 1,0.305
set title "runs, summed over processes"
set format y "%.3s%c"
plot for [i=1:nlines] $moments index i-1 using 1:3 with linespoints pointtype 7 pointsize POINTS linewidth 1.8 linecolor rgb C(i)
set origin 0,0
set size 1,0.355
set bmargin ngroups == 1 ? 3.6 : 5
set title (ngroups == 1 ? "ratio: median (blue) and 95th percentile (orange, dashed)" : "ratio: median, and 95th percentile dashed")
set format y "%.2f"
set format x tformat
set xlabel tlabel
if (ngroups > 1) { set key bottom center outside horizontal maxrows 1 offset 0,-0.4 }
plot for [i=1:nlines] $moments index i-1 using 1:4 with linespoints pointtype 7 pointsize POINTS linewidth 1.8 linecolor rgb C(i) title (ngroups == 1 ? "" : NAME[i]), \
     for [i=1:nlines] $moments index i-1 using 1:5 with linespoints pointtype 7 pointsize POINTS linewidth 1.8 dashtype 2 linecolor rgb (ngroups == 1 ? COLOUR[2] : COLOUR[i]) notitle
unset multiplot

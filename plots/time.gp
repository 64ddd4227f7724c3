# time.gp - the snapshots over time: present pages, runs, ratio
#
# $moments: (Unix time, present GiB, runs, median ratio, 95th percentile), a host a block.  nlines: hosts; ngroups:
# hosts told apart by colour, 1 when there are too many; tmin, tmax, tstep, tformat, tlabel: the time axis;
# memory_step, runs_step, ratio_step: of the tics, about four a panel; points_shown: few enough snapshots to mark each.
unset arrow
unset label
set xdata time
set timefmt "%s"
set xrange [tmin:tmax]
set xtics tstep
set format x ""
set lmargin 9
set key off
C(i) = COLOUR[ngroups == 1 ? 1 : i]
P = points_shown ? 0.35 : 0
set multiplot
set yrange [0:*]
set tmargin 0
set bmargin 0
set size 1,0.21
set title offset 0,-0.7 textcolor rgb INK
set origin 0,0.73
set title "present memory, summed over processes (GiB)"
set ytics memory_step
set format y "%g"
plot for [i=1:nlines] $moments index i-1 using 1:2 with linespoints pointtype 7 pointsize P linewidth 1.8 linecolor rgb C(i)
set origin 0,0.455
set title "runs, summed over processes"
set ytics runs_step
set format y "%.0s%c"
plot for [i=1:nlines] $moments index i-1 using 1:3 with linespoints pointtype 7 pointsize P linewidth 1.8 linecolor rgb C(i)
set origin 0,0.175
set title (ngroups == 1 ? "ratio: median and 95th percentile of the processes" : "ratio: median and, dashed, 95th percentile of the processes")
set ytics ratio_step
set format y "%.2f"
set format x tformat
set xlabel tlabel
set key on maxcols 5
MEDIAN(i) = ngroups == 1 ? (i == 1 ? "median" : "") : NAME[i]
P95(i) = ngroups == 1 && i == 1 ? "95th percentile" : ""
plot for [i=1:nlines] $moments index i-1 using 1:4 with linespoints pointtype 7 pointsize P linewidth 1.8 linecolor rgb C(i) title MEDIAN(i), \
     for [i=1:nlines] $moments index i-1 using 1:5 with linespoints linetype 12 pointtype 7 pointsize P linewidth 1.8 linecolor rgb (ngroups == 1 ? COLOUR[2] : C(i)) title P95(i)
unset multiplot

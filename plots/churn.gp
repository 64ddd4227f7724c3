# churn.gp - distribution of what changes in a process's map from one snapshot to the next
#
# $changes: (stretches that changed, percent of pairs); $runs: (runs of the later map, percent).  Zero has no place on a
# logarithmic axis and stands at ZERO, left of it.  xmax; ngroups is 1.
set logscale x
set xrange [ZERO/1.35:xmax]
set yrange [0:100]
set xtics ("0" ZERO)
do for [d=0:15] {
    set xtics add (sprintf("10^{%d}", d) 10.0**d)
    do for [k=2:9] { set xtics add ("" k*10.0**d 1) }
}
set format y PERCENT
set ytics 0,20,100
set xlabel "calls to bring the mirror of a process up to date after an interval"
set ylabel "intervals with at most so many"
set arrow from 0.63,0 to 0.63,100 nohead linecolor rgb QUIET linewidth 0.8 dashtype 3 back
set key maxcols 2
set bmargin BELOW(1)
plot $changes using 1:2 with steps linewidth 2.5 linecolor rgb C1(1) title "follow the changes", \
     $runs using 1:2 with steps linetype SECOND linewidth 2.5 linecolor rgb C2(1) title "rebuild: all runs"

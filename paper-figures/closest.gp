# closest.gp - which setting comes how near to the paper's numbers
#
# $multiples1, 2: row, then the 95th and 99th percentile of runs, of the ratio, and of the ratio by mapped pages, each
# as a multiple of the paper's; LABEL1[], LABEL2[]: rows; TITLE[], npanels,
# nrows, xmin, xmax.
unset arrow
unset label
unset ylabel
set logscale x
set xrange [xmin:xmax]
set yrange [nrows + 0.6:0.4]
set xtics ("10^{-4}" 0.0001, "10^{-3}" 0.001, "1/100" 0.01, "1/10" 0.1, "1" 1, "10" 10, "100" 100)
set ytics scale 0
set grid noxtics ytics
set label 1 "multiples of the paper's numbers" at screen 0.585,0.19 center textcolor rgb INK
set key off
set arrow from 1,graph 0 to 1,graph 1 nohead linecolor rgb INK linewidth 1 back
set bmargin at screen 0.29
set tmargin 2
array KIND[6] = ["runs, 95 %", "runs, 99 %", "ratio, 95 %", "ratio, 99 %", "by mapped, 95 %", "by mapped, 99 %"]
array SHAPE[6] = [7, 6, 5, 4, 9, 8]
HUE(k) = COLOUR[(k + 1) / 2]
set multiplot
left = 0.2
width = (0.97 - left) / npanels
do for [p=1:npanels] {
    set title TITLE[p] offset 0,-0.6 textcolor rgb INK
    set lmargin at screen left + width * (p - 1) + 0.01
    set rmargin at screen left + width * p - 0.02
    if (p == 2) { unset label 1 }
    unset ytics
    if (p == 1) {
        do for [i=1:|LABEL1|] { set ytics add (LABEL1[i] i) }
    } else {
        do for [i=1:nrows] { set ytics add ("" i) }
    }
    set ytics scale 0 nomirror
    if (p == 1) {
        plot for [k=1:6] $multiples1 using (column(k + 1)):1 with points pointtype SHAPE[k] pointsize 0.8 linewidth 1.5 linecolor rgb HUE(k)
    } else {
        plot for [k=1:6] $multiples2 using (column(k + 1)):1 with points pointtype SHAPE[k] pointsize 0.8 linewidth 1.5 linecolor rgb HUE(k)
    }
}
# the key, of a plot of nothing as wide as the figure: a panel has no room for it
unset title
unset border
unset arrow
unset label
unset xtics
unset ytics
unset grid
set lmargin 1
set rmargin 1
set key on vertical maxrows 2 at screen 0.52,0.03 center bottom Left reverse samplen 0.5 width 1
plot for [k=1:6] NaN with points pointtype SHAPE[k] pointsize 0.8 linewidth 1.5 linecolor rgb HUE(k) title KIND[k]
unset multiplot

# style.gp - the look of all figures; read before each figure's own source
#
# dsreport sends, in this order: `set terminal`, the data as datablocks with a few variables, this file, the figure.
# Colours are those of Okabe and Ito, told apart by people with any kind of colour vision; a second kind of curve is
# dashed, so that nothing hangs on colour alone.  page.css repeats the colours to replace them on a dark page.
# The key stands below the plot, where it can hide no data.
set encoding utf8
INK = "#333333"
QUIET = "#777777"
GRID = "#e2e2e2"
SMALL = ",11"
array COLOUR[4]
COLOUR[1] = "#0072b2"
COLOUR[2] = "#d55e00"
COLOUR[3] = "#009e73"
COLOUR[4] = "#a3478f"
# density of a scatter plot, few samples to many
array DENSITY[5]
DENSITY[1] = "#8cc5e8"
DENSITY[2] = "#4a9bd1"
DENSITY[3] = "#1f6fae"
DENSITY[4] = "#0d4a80"
DENSITY[5] = "#06264a"
set border 3 linecolor rgb INK linewidth 1
set tics nomirror scale 0.5 textcolor rgb INK
set grid back linetype 1 linecolor rgb GRID linewidth 0.7
set key at screen 0.52,0.015 center bottom horizontal Left reverse textcolor rgb INK samplen 1.8 width 1 spacing 1.15
set xlabel textcolor rgb INK offset 0,0.2
set ylabel textcolor rgb INK
set rmargin 5
PERCENT = "%g %%"
# the second kind of curve: another colour when the first is alone, else dashed in its host's colour
set linetype 11 dashtype solid
set linetype 12 dashtype (5,4)
SECOND = ngroups == 1 ? 11 : 12
C1(i) = COLOUR[i]
C2(i) = ngroups == 1 ? COLOUR[2] : COLOUR[i]
# a line across at a percentile of interest, named at the right
do for [p in "95 99"] {
    set arrow p+0 from graph 0, first p+0 to graph 1, first p+0 nohead linecolor rgb QUIET linewidth 0.8 dashtype 3 back
    set label p+0 p." %" at graph 1, first p+0 left offset 0.5,(p eq "95" ? -0.15 : 0.15) textcolor rgb QUIET font SMALL
}
# room below the plot for a key of so many rows
BELOW(rows) = 3.4 + 1.2 * rows

# style.gp - the look of all figures; read before each figure's own source
#
# dsreport sends, in this order: `set terminal`, the data as datablocks with a few variables, this file, the figure.
# Colours are those of Okabe and Ito, told apart by people with any kind of colour vision; a second kind of curve is
# dashed, so that nothing hangs on colour alone.  page.css repeats the colours to replace them on a dark page.
set encoding utf8
INK = "#333333"
QUIET = "#777777"
GRID = "#dddddd"
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
set grid linecolor rgb GRID linewidth 1 dashtype solid
set key textcolor rgb INK samplen 2 spacing 1.15 opaque
set xlabel textcolor rgb INK
set ylabel textcolor rgb INK
PERCENT = "%g %%"
# the second kind of curve: another colour when the first is alone, else dashed in its host's colour
SECOND = ngroups == 1 ? 1 : 2

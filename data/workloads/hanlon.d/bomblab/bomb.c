/* bomb.c - reads a line a phase and explodes unless it is the right one */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char line[256];

void explode_bomb(void)
{
	puts("BOOM!!! The bomb has blown up.");
	exit(8);
}

static char *read_line(int phase)
{
	printf("phase %d> ", phase);
	fflush(stdout);
	if (!fgets(line, sizeof line, stdin))
		explode_bomb();
	line[strcspn(line, "\n")] = 0;
	return line;
}

void phase_1(char *s)
{
	if (strcmp(s, "Border relations with Canada have never been better.") != 0)
		explode_bomb();
}

void phase_2(char *s)
{
	int n[6], i;

	if (sscanf(s, "%d %d %d %d %d %d", n, n + 1, n + 2, n + 3, n + 4, n + 5) != 6 || n[0] != 1)
		explode_bomb();
	for (i = 1; i < 6; i++)
		if (n[i] != 2 * n[i - 1])
			explode_bomb();
}

static int func4(int x, int low, int high)
{
	int mid = low + (high - low) / 2;

	if (mid > x)
		return 2 * func4(x, low, mid - 1);
	if (mid < x)
		return 2 * func4(x, mid + 1, high) + 1;
	return 0;
}

void phase_3(char *s)
{
	int x, want;

	if (sscanf(s, "%d %d", &x, &want) != 2 || x < 0 || x > 14 || func4(x, 0, 14) != want || want != 3)
		explode_bomb();
}

int main(void)
{
	phase_1(read_line(1));
	puts("Phase 1 defused. How about the next one?");
	phase_2(read_line(2));
	puts("That's number 2. Keep going!");
	phase_3(read_line(3));
	puts("Congratulations! You've defused the bomb!");
	return 0;
}

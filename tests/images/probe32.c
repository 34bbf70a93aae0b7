/*
 * A 32-bit program without a library: says so through the 32-bit entry, if the
 * calls answer that such programs make and 64-bit ones do not.
 */
static int call(int number, int a, const void *b, int c)
{
	int result;

	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
	return result;
}

void _start(void)
{
	int time[2] = {0, 0};

	/* clock_gettime with seconds of 32 bits, getuid with users of 16 */
	if (call(265, 0, time, 0) == 0 && time[0] > 0 && call(24, 0, 0, 0) == 0)
		call(4 /* write */, 1, "32-bit\n", 7);
	call(1 /* exit */, 0, 0, 0);
}

/* A PKCS#11 library as some vendors' are when their device is away: it hangs, crashes or exits. */

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

unsigned long C_GetFunctionList(void **list);

unsigned long C_GetFunctionList(void **list)
{
	const char *does = getenv("BAD_MODULE");

	*list = 0;
	if (does && !strcmp(does, "crash"))
		raise(SIGSEGV);
	if (does && !strcmp(does, "exit"))
		_exit(7);
	for (;;)
		pause();
}

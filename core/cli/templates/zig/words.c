/* The calls of the host, compiled once. */
#define VERGER_MAIN
#include "verger.h"

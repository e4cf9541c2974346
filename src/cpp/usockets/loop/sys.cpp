// loop/sys.cpp - the hook of the fault-injecting build (see loop/sys.h). In a normal build this file is empty.

#include "usockets/loop/sys.h"

#ifdef USOCKETS_FAULT_INJECTION
int (*us_sys_hook)(us_sys_call_t call, size_t *length) = nullptr;
#endif

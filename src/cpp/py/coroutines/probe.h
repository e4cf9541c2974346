// The probe: asyncio's tables of Tasks hold it instead of a spare Task, so that every lookup of the Task is noticed.
//
// As a key of the dictionary of current tasks it has the hash of its loop. Every lookup of the loop (current_task(),
// timeouts, task groups, an eager Task, a debugger; in C or Python) compares the loop with the probe, and the
// comparison puts loop -> Task into the dictionary; CPython restarts a lookup when a comparison has changed the
// dictionary. The probe's value is None, so code that iterates over the dictionary sees no Task. The probe is also
// among the weak references of all_tasks(), which calls each of them. Called, it returns the running Task, unless that
// is in the set itself (adding it at once would change the set during the iteration). No Python code runs in any of
// this.
#pragma once

#include "py/interpreter/ref.h"

namespace uwserve {

class SpareTask;
struct ModuleState;

// Owns no reference: its maker retires it. NULL with an exception set.
PyObject *new_probe(const ModuleState &state, SpareTask &spare, PyObject *loop);
void retire_probe(PyObject *probe);
bool add_probe_type(PyObject *module, ModuleState *state);

}  // namespace uwserve

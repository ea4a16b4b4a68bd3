#define VERGER_MAIN
#include "verger.h"

verger_text worker_describe(void) {
    return verger_str("{\"name\": \"no-op\", \"version\": \"0.1.0\"}");
}

verger_outcome worker_perform(const verger_scope *scope, verger_text args) {
    (void)scope, (void)args;
    return verger_done();
}

#define VERGER_MAIN
#include "verger.hpp"

verger_text worker_describe() {
    return verger_str(R"({"name": "no-op", "version": "0.1.0"})");
}

verger_outcome worker_perform(const verger_scope *, verger_text) { return verger_done(); }

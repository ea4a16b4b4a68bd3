// The words of verger.h for C++: errors as return values that carry their code, a savepoint that is undone when
// it is left. There are no exceptions: WASI's C++ library has none.
#pragma once

#include "verger.h"

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

namespace verger {

inline verger_text text(std::string_view text) { return {text.data(), text.size()}; }
inline std::string_view view(verger_text text) { return {text.ptr, text.len}; }

/// A value of a statement: an integer, a real, a text, or nullptr.
struct value : verger_value {
    value(verger_value other) : verger_value(other) {}
    value(std::nullptr_t) : verger_value(verger_null()) {}
    value(std::int64_t number) : verger_value(verger_integer(number)) {}
    value(int number) : verger_value(verger_integer(number)) {}
    value(double number) : verger_value(verger_null()) { tag = VERGER_REAL; as.real = number; }
    value(std::string_view words) : verger_value(verger_text_value(verger::text(words))) {}
    value(const char *words) : value(std::string_view(words)) {}
};

/// What a call gave, or nothing: then verger_error says why.
template <typename T> using result = std::optional<T>;

using values = std::initializer_list<value>;
static_assert(sizeof(value) == sizeof(verger_value), "values are handed on as they are");

/// All rows of a query, as far as one chunk (16 MiB) goes.
inline result<verger_table> all(const char *sql, values params = {}) {
    verger_table table;
    if (!verger_all(sql, params.begin(), params.size(), &table)) return std::nullopt;
    return table;
}

/// Runs one statement; the number of rows it changed.
inline result<std::uint32_t> execute(const char *sql, values params = {}) {
    std::uint32_t changed = 0;
    if (!verger_execute(sql, params.begin(), params.size(), &changed)) return std::nullopt;
    return changed;
}

/// A savepoint: what was written since is undone when it is left without keep().
class savepoint {
  public:
    savepoint() : open(verger_begin(&handle)), begun(open) {}
    savepoint(const savepoint &) = delete;
    savepoint &operator=(const savepoint &) = delete;
    ~savepoint() { if (open) verger_undo(handle); }
    explicit operator bool() const { return begun; }
    bool keep() { open = false; return verger_keep(handle); }

  private:
    verger_savepoint handle = 0;
    bool open, begun;
};

/// Memory that the host's answers took since is freed when it is left.
class scratch {
  public:
    scratch() : mark(verger_memory()) {}
    scratch(const scratch &) = delete;
    scratch &operator=(const scratch &) = delete;
    ~scratch() { verger_release(mark); }

  private:
    verger_mark mark;
};

/// An integer arg that must be there; without it, end with verger_discarded().
inline result<std::int64_t> integer_arg(verger_text args, const char *path) {
    verger_value found;
    if (!verger_arg(args, path, VERGER_INTEGER, &found)) return std::nullopt;
    return found.as.integer;
}

/// Writes to the audit log.
struct event {
    const char *action;
    int outcome = VERGER_SUCCESS;
    verger_value organization = verger_null();
    const char *subject_type = nullptr;
    verger_value subject_id = verger_null();
    std::string metadata = {};
};
inline bool audit(const event &event) {
    verger_event written = {};
    written.action = verger_str(event.action);
    written.outcome = static_cast<std::uint8_t>(event.outcome);
    written.organization_id = verger_cell_text(event.organization);
    if (event.subject_type != nullptr) written.subject_type = verger_some(verger_str(event.subject_type));
    written.subject_id = verger_cell_text(event.subject_id);
    if (!event.metadata.empty()) written.metadata = verger_some(text(event.metadata));
    return verger_audit(&written);
}

} // namespace verger

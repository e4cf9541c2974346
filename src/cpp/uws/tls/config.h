// A checked TLS configuration, which never changes; copies share it. Any thread.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "usockets/tls/tls.h"

namespace uwserve {

using TlsEntry = us_tls_entry_t;
using TlsError = us_tls_error_t;

class TlsConfig {
  public:
    TlsConfig() = default;  // none
    // The first entry serves clients that name no host or an unknown one. nullopt with *error; throws std::bad_alloc.
    static std::optional<TlsConfig> create(const std::vector<TlsEntry> &entries, TlsError *error) {
        us_tls_config_t *config = us_tls_config_new(entries, error);
        if (!config) return std::nullopt;
        return TlsConfig(config);
    }

    us_tls_config_t *get() const { return config_.get(); }
    explicit operator bool() const { return config_ != nullptr; }
    bool operator==(const TlsConfig &other) const = default;

  private:
    explicit TlsConfig(us_tls_config_t *config) : config_(config, us_tls_config_unref) {}

    std::shared_ptr<us_tls_config_t> config_;
};

// OpenSSL's own version texts.
inline const char *openssl_in_use() { return us_tls_library(0); }
inline const char *openssl_built_against() { return us_tls_library(1); }

}  // namespace uwserve

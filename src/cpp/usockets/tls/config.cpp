// tls/config.cpp - a configuration: its sites, and the choice between them by the client's server name (SNI, RFC 6066
// 3).
//
// The ClientHello callback chooses before any other decision: certificate, suites, client certificates, ALPN and valid
// tickets all depend on the site. An exact name goes before a wildcard, a wildcard matches one label, and case and a
// trailing dot are ignored. Without a name, or with an unknown one, the first site is chosen.

#include "usockets/tls/config.h"

#include "usockets/loop/loop.h"

static std::string normalised(std::string_view name) {
    std::string out(name.substr(0, name.size() - name.ends_with('.')));
    for (char &c : out) {
        c = c >= 'A' && c <= 'Z' ? (char) (c + 32) : c;
    }
    return out;
}

static const us_tls_site_t &site_for(const us_tls_config_t *config, std::string_view name) {
    const std::string wanted = normalised(name);
    if (const auto found = config->exact.find(wanted); found != config->exact.end()) {
        return config->sites[found->second];
    }
    const size_t dot = wanted.find('.');
    if (dot != std::string::npos && dot > 0) {
        if (const auto found = config->wildcard.find(wanted.substr(dot + 1)); found != config->wildcard.end()) {
            return config->sites[found->second];
        }
    }
    return config->sites[0];
}

// The host name of the server_name extension; no data when it is missing or malformed.
static std::string_view server_name_of(SSL *ssl) {
    const unsigned char *data = nullptr;
    size_t length = 0;
    if (!SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &data, &length) || length < 5) {
        return {};
    }
    const size_t list = (size_t) data[0] << 8 | data[1], name = (size_t) data[3] << 8 | data[4];
    if (list + 2 != length || data[2] != TLSEXT_NAMETYPE_host_name || name + 5 > length) {
        return {};
    }
    return {(const char *) data + 5, name};
}

static int on_client_hello(SSL *ssl, int *alert, void *user) {
    const us_tls_config_t *config = (const us_tls_config_t *) user;
    const us_tls_site_t &site = site_for(config, server_name_of(ssl));
    if (&site == &config->sites[0]) {
        return SSL_CLIENT_HELLO_SUCCESS;
    }
    if (!SSL_set_SSL_CTX(ssl, site.context) || !SSL_set_ciphersuites(ssl, site.suites13.c_str()) ||
        !SSL_set_min_proto_version(ssl, (int) SSL_CTX_get_min_proto_version(site.context))) {
        *alert = SSL_AD_INTERNAL_ERROR;
        return SSL_CLIENT_HELLO_ERROR;
    }
    SSL_set_verify(ssl, site.verify_mode, site.verify);
    return SSL_CLIENT_HELLO_SUCCESS;
}

// The name of an authority (RFC 3986 3.2.2), without port and brackets.
static std::string_view name_of(std::string_view authority) {
    if (!authority.empty() && authority[0] == '[') {
        return authority.substr(1, authority.find(']') - 1);
    }
    return authority.substr(0, authority.find(':'));
}

bool us_tls_config_may_ask(const us_tls_config_t *config, SSL *ssl, std::string_view host) {
    const us_tls_site_t &asked = site_for(config, name_of(host));
    if (asked.demands.empty()) {
        return true;
    }
    for (const us_tls_site_t &site : config->sites) {
        if (site.context == SSL_get_SSL_CTX(ssl)) {
            return site.demands == asked.demands;
        }
    }
    return false;
}

static void destroy(us_tls_config_t *config) {
    for (us_tls_site_t &site : config->sites) {
        SSL_CTX_free(site.context);
    }
    delete config;
}

// False: another site has the name.
static bool add_names(us_tls_config_t *config, size_t index, const us_tls_entry_t &entry, us_tls_error_t *error) {
    for (const std::string &given : entry.server_names) {
        const std::string name = normalised(given);
        const bool is_wildcard = name.starts_with("*.");
        const bool added = is_wildcard ? config->wildcard.emplace(name.substr(2), index).second
                                       : config->exact.emplace(name, index).second;
        if (!added) {
            error->option = "server_name";
            error->text = "'" + given + "' is there twice";
            return false;
        }
    }
    return true;
}

us_tls_config_t *us_tls_config_new(const std::vector<us_tls_entry_t> &entries, us_tls_error_t *error) {
    us_tls_config_t *config = new us_tls_config_t;
    config->sites.resize(entries.size());
    for (size_t i = 0; i < entries.size(); i++) {
        error->entry = i;
        us_tls_site_t &site = config->sites[i];
        if (!us_tls_site_open(&site, entries[i], error) || !add_names(config, i, entries[i], error)) {
            destroy(config);
            return nullptr;
        }
        config->has_demands |= site.demands != config->sites[0].demands;
        if (!us_tls_use_ticket_keys(site.context, &config->ticket_keys)) {
            us_out_of_memory();
        }
        // Acknowledges the name to the client, and binds sessions to it.
        SSL_CTX_set_tlsext_servername_callback(site.context, +[](SSL *, int *, void *) { return SSL_TLSEXT_ERR_OK; });
    }
    SSL_CTX_set_client_hello_cb(config->sites[0].context, on_client_hello, config);
    return config;
}

void us_tls_config_ref(us_tls_config_t *config) { config->references.fetch_add(1, std::memory_order_relaxed); }

void us_tls_config_unref(us_tls_config_t *config) {
    if (config->references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        destroy(config);
    }
}

const char *us_tls_library(int built) { return built ? OPENSSL_VERSION_TEXT : OpenSSL_version(OPENSSL_VERSION); }

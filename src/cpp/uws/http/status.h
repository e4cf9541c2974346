// Reason phrases of the registered HTTP status codes (RFC 9110 section 15 and the IANA registry).
#pragma once

namespace uwserve {

const char *http_reason(int status);  // "Unknown" for codes without a registration

}  // namespace uwserve

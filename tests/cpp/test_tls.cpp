#include "tls_client.h"
TEST(x) {}

#pragma once
#include "server.h"

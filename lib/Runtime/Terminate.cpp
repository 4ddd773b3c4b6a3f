//===- Terminate.cpp - What an exception nobody caught does ---------------===//
//
// The C++ library's own handler prints the exception's type, for which every program would carry
// the demangler (45 KB). The entries of programs and of quern.h catch everything before.
//
//===----------------------------------------------------------------------===//
#include <cstdlib>
#include <exception>

namespace __cxxabiv1 {
extern std::terminate_handler __terminate_handler;
std::terminate_handler __terminate_handler = std::abort;
} // namespace __cxxabiv1

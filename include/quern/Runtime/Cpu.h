//===- Cpu.h - What this machine's CPU can do -------------------*- C++ -*-===//
//
// Feature checks for dispatch, asking the hardware (CPUID with the operating system's
// XCR0 state, AMX permission; hwcaps on AArch64), and the cores a process may use.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_RUNTIME_CPU_H
#define QUERN_RUNTIME_CPU_H

#include "quern/Runtime/Program.h"
#include "quern/Runtime/Status.h"
#include <string>
#include <string_view>
#include <vector>

namespace quern::runtime {

/// Whether the CPU and operating system support an LLVM feature name (`avx512vnni`).
/// An unknown name counts as missing.
bool cpuHas(std::string_view feature);

/// The features of a comma-separated list (a leading '+' is allowed) that are missing.
std::vector<std::string> missingFeatures(std::string_view features);

/// Chooses the program's best target this CPU runs, or the one named `wanted`. The error
/// says, for each target, what is missing. Asks for AMX permission where it is used.
Status chooseTarget(const quern_program &program, std::string_view wanted,
                    const quern_target *&out);

/// The CPU's own name, for reports.
std::string cpuName();

/// One logical CPU for each physical core in this process's affinity mask, ascending.
std::vector<int> physicalCores();

/// How many threads to use by default: physical cores, cut by a cgroup's CPU quota.
int defaultThreads();

} // namespace quern::runtime

#endif // QUERN_RUNTIME_CPU_H

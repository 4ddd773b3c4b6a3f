// What the choice adds up to, for each engine, and what is wrong with choices.
// RUN: quern-opt %s --split-input-file --quern-allocate="bytes=110" --verify-diagnostics | FileCheck %s
// RUN: sed 's/knapsack: 110 bytes, 6.875 bits a weight, expected loss 5.20, 0.743/greedy: 100 bytes, 6.250 bits a weight, expected loss 5.50, 0.786/' %s > %t.mlir
// RUN: quern-opt %t.mlir --split-input-file --quern-allocate="bytes=110 engine=greedy" --verify-diagnostics | FileCheck %s --check-prefix=GREEDY

// Within 110 bytes either @a or @b can take more; one format for all takes 80 and loses 7. Greedy search begins with the best step a byte,
// @a's, and can then afford no other.
// expected-remark @below {{knapsack: 110 bytes, 6.875 bits a weight, expected loss 5.20, 0.743 of one format for all}}
module {
// CHECK: quern.weight @a {{.*}}quern.chosen_format = #quern.q4_0
// GREEDY: quern.weight @a {{.*}}quern.chosen_format = #quern.q8_0
quern.weight @a : tensor<1x64xf32> {quern.choices = [{format = #quern.q4_0, bytes = 30, loss = 4.0}, {format = #quern.q8_0, bytes = 50, loss = 2.5}]}
// CHECK: quern.weight @b {{.*}}quern.chosen_format = #quern.q8_0
// GREEDY: quern.weight @b {{.*}}quern.chosen_format = #quern.q4_0
quern.weight @b : tensor<1x32xf32> {quern.choices = [{format = #quern.q8_0, bytes = 60, loss = 0.2}, {format = #quern.q4_0, bytes = 30, loss = 2.0}]}
// CHECK: quern.weight @c {{.*}}quern.chosen_format = #quern.q4_0
quern.weight @c : tensor<1x32xf32> {quern.choices = [{format = #quern.q4_0, bytes = 20, loss = 1.0}, {format = #quern.q8_0, bytes = 60, loss = 0.9}]}
}

// -----

// expected-error @below {{the budget of 110 bytes is too small: the smallest formats take 111}}
module {
quern.weight @a : tensor<1x32xf32> {quern.choices = [{format = #quern.q4_0, bytes = 111, loss = 4.0}]}
}

// -----

// expected-error @below {{no weight has choices; run quern-estimate-losses first}}
module {
quern.weight @a : tensor<1x32xf32>
}

// -----

// expected-error @below {{weight 'a': expected choices of format, bytes and loss}}
module {
quern.weight @a : tensor<1x32xf32> {quern.choices = [{format = #quern.q4_0, bytes = -1, loss = 4.0}]}
}

// -----

// expected-error @below {{'a' as Q4_0 has a cost that is not a number from 0 on}}
module {
quern.weight @a : tensor<1x32xf32> {quern.choices = [{format = #quern.q4_0, bytes = 1, loss = 0x7FF8000000000000 : f64}]}
}

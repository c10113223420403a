// SPDX-License-Identifier: Apache-2.0
//
// Prints what a model costs on this board. Put bench.c and the files that
// `cerwu-onnx export-c model.cwb FOLDER --inference --without-decoder --name model` wrote beside this sketch.

extern "C" int cwb_bench(void (*print)(const char *));

static void printLine(const char *text) { Serial.println(text); }

void setup() {
  Serial.begin(115200);
  while (!Serial && millis() < 5000) {
  }
  cwb_bench(printLine);
}

void loop() {}

"""The npm package in js/, as users run it: in Node and in a headless Chromium, with onnxruntime-web from npm."""

"""The C decoder on emulated microcontrollers: cross-compiled with ziglang, run by unicorn, both from pip."""

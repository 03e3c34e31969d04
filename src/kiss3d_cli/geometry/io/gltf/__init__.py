"""glTF 2.0, read by its specification (Khronos, ISO/IEC 12113:2022)."""

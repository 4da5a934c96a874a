"""Export of an integer model as a C header, for the decoder without any runtime in export/native/micro/."""

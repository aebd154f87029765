"""Objects to bytes (serializers) and bytes to fewer bytes (codecs). Home of cloudpickle and zstandard."""

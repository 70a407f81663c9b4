"""Nothing: what ms-swift imports in place of the plugins that the args.json of a model from a hub may name.

ms-swift takes `external_plugins` and `custom_register_path` from a checkpoint's args.json only where none are given
(`BaseArguments.load_args_from_ckpt` of both generations), and a model that is not here yet cannot be looked at.
"""

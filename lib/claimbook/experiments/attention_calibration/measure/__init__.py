"""One experiment a module: its row, its units and how one is measured. A change stales the stored runs of that one."""

"""AsyncLlamaBridge under asyncio and trio, and without threads."""

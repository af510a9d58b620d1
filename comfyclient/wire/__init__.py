"""ComfyUI's protocol as data: websocket frames, HTTP bodies, one job's life. Pure: no clock, no socket."""

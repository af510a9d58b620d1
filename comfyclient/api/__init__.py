"""The REST API: sessions, workflows and jobs for other programs. It needs the extra ``comfyclient[api]``.

`comfyclient.api.app.create_app` makes the application, ``comfyclient serve`` runs it.
"""

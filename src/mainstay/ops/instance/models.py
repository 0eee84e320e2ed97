"""The table; read and written by plain SQL in `ops.settings_store`."""

from django.db import models


class InstanceSetting(models.Model):
    """One fact about the instance."""

    key = models.CharField(max_length=100, primary_key=True)
    value = models.TextField()

    class Meta:
        db_table = "instance_setting"

    def __str__(self) -> str:
        return self.key
